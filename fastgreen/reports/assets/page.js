"use strict";
// Draws the curves and lanes of the page and makes its tables sortable. All text is set as text, never as markup.
(() => {
  let run = JSON.parse(document.getElementById("run").textContent);
  const root = document.documentElement;
  const find = (id) => document.getElementById(id);

  // ---- numbers ----

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;

  function unpacked(column) {
    const steps = new Uint16Array(bytes(column.data));
    return Array.from(steps, (n) => (n === 65535 ? null : n * column.scale + column.offset));
  }

  function quantity(value, unit) {
    if (value === null || !Number.isFinite(value)) return "-";
    if (value === 0) return "0 " + unit;
    const prefixes = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "u"], [1e-9, "n"]];
    const [scale, prefix] = prefixes.find(([s]) => Math.abs(value) >= s * 0.99995) || prefixes[6];
    const digits = Number((value / scale).toPrecision(4));
    return `${digits} ${prefix}${unit}`;
  }

  // Times are those since the begin of the run, also where a part of it is drawn.
  const instant = (value) => seconds(value + (run.begin_s || 0));
  const seconds = (value) => (value < 1000 ? quantity(value, "s") : `${Number(value.toPrecision(6))} s`);

  // A run of hours has its axis in h:mm:ss.
  const isLong = () => (run.begin_s || 0) + run.duration_s >= 1000;
  const clock = (value) => {
    const ms = Math.round(value * 1e3);
    const two = (number) => String(number).padStart(2, "0");
    const [whole, part] = [Math.floor(ms / 1e3), ms % 1e3];
    const text = `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
    return part ? `${text}.${String(part).padStart(3, "0").replace(/0+$/, "")}` : text;
  };
  const tick = (value) => (isLong() ? clock(value) : `${+value.toPrecision(6)} s`);
  const steps = [
    ...[1e-3, 1e-2, 0.1].flatMap((unit) => [unit, 2 * unit, 5 * unit]),
    ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200],
    ...[1, 10, 100, 1e3, 1e4].flatMap((days) => [86400 * days, 172800 * days, 432000 * days]),
  ];

  // ---- theme ----

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function setTheme(name) {
    root.dataset.theme = name;
    find("theme").textContent = name === "dark" ? "Light" : "Dark";
    redraw();
  }

  // ---- power over time ----

  const charts = [];
  const columns = ["high", "low", "most", "least", "mean"];
  const view = { from: 0, to: run.duration_s, level: -1 };
  const axisWidth = 56;
  const rightGap = 20;

  let levels = [];

  function unpackedLevels() {
    return run.levels.map((level) => {
      const curves = level.curves.map((curve) => {
        // Several runs on one page have steps and lengths of their own.
        const { count, step_s, duration_s } = { ...level, duration_s: run.duration_s, ...curve.own };
        const x = Array.from({ length: count + 1 }, (_, i) => Math.min(i * step_s, duration_s));
        x[count] = duration_s;
        const data = columns.map((name) => unpacked(curve[name]));
        data.forEach((column) => column.push(column[column.length - 1])); // the last step has a width too
        return [x, ...data];
      });
      stack(curves);
      return { step_s: level.step_s, curves };
    });
  }

  // The channels of the total one on top of the other, as further columns of the curve of all of them.
  function stack(curves) {
    let below = curves.length ? curves[0][0].map(() => 0) : [];
    (run.stack || []).forEach((place) => {
      const mean = curves[place][5];
      below = below.map((sum, i) => (sum === null || mean[i] === null ? null : sum + Math.max(mean[i], 0)));
      curves[0].push(below);
    });
  }

  const layer = (i) => color(`--layer${i % 6}`);

  // The finest level whose steps are not narrower than half a pixel.
  function fittingLevel(width) {
    let found = 0;
    levels.forEach((level, i) => {
      if ((view.to - view.from) / level.step_s <= 2 * width) found = i;
    });
    return found;
  }

  // The place of the last of rising numbers that is not above x; 0 if all are.
  function placeOf(numbers, x) {
    let [low, high] = [0, numbers.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (numbers[middle] <= x) low = middle;
      else high = middle;
    }
    return low;
  }

  // Bounds far above every peak would flatten the curve, so the scale follows the peaks. Several runs share a scale.
  function top(u) {
    let peak = 0;
    let bound = 0;
    (run.equal && charts.length ? charts : [u]).forEach(({ data }) => {
      const last = placeOf(data[0], view.to);
      for (let i = placeOf(data[0], view.from); i <= last; i++) {
        peak = Math.max(peak, data[3][i] || 0);
        bound = Math.max(bound, data[1][i] || 0);
      }
    });
    return Math.max(peak, Math.min(bound, 2 * peak || bound)) * 1.05 || 1;
  }

  const heightOf = (place) => (run.equal ? 200 : place === 0 ? 260 : 140);

  function said(u, i) {
    const [high, low, most, least, mean] = u.data.slice(1).map((column) => column[i]);
    if (mean === null || mean === undefined) return "unknown here";
    const inside = Math.min(Math.max(mean, low), high === null ? mean : high);
    return `${instant(u.data[0][i])}: ${quantity(inside, "W")}, between ${quantity(low, "W")} and ` +
      `${high === null ? "no known bound" : quantity(high, "W")}; peaks ${quantity(least, "W")} to ${quantity(most, "W")}`;
  }

  function chartOptions(place, width, readout) {
    const layers = place === 0 ? run.stack || [] : [];
    const stepped = uPlot.paths.stepped({ align: 1 });
    const edge = { paths: stepped, width: 0, points: { show: false } };
    const axis = { stroke: () => color("--soft"), grid: { stroke: () => color("--rule"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: heightOf(place),
      ms: 1e-3,
      legend: { show: false },
      padding: [8, rightGap, 0, 0],
      scales: { x: { time: false }, y: { range: (u) => [0, top(u)] } },
      axes: [
        { ...axis, size: 28, ...(isLong() ? { incrs: steps, space: 70 } : {}), values: (u, ticks) => ticks.map((t) => tick(t + (run.begin_s || 0))) },
        { ...axis, size: axisWidth, values: (u, ticks) => ticks.map((t) => quantity(t, "W")) },
      ],
      series: [{}, edge, edge, edge, edge, { paths: stepped, stroke: () => color("--line"), width: 1.5, points: { show: false } },
        ...layers.map((_, i) => (i === 0 ? { ...edge, fill: () => layer(0) } : edge))],
      bands: [
        ...layers.slice(1).map((_, i) => ({ series: [7 + i, 6 + i], fill: () => layer(i + 1) })),
        { series: [3, 4], fill: () => color("--peaks") },
        { series: [1, 2], fill: () => color("--sure") },
      ],
      cursor: { y: false, sync: { key: "run" }, drag: { setScale: false, x: true, y: false }, bind: { dblclick: () => () => zoom(0, run.duration_s) } },
      hooks: {
        setCursor: [(u) => {
          if (Number.isInteger(u.cursor.idx)) readout.textContent = said(u, u.cursor.idx);
        }],
        setSelect: [(u) => {
          if (u.select.width < 4) return;
          const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          zoom(from, to);
        }],
      },
    };
  }

  // Which color is which channel.
  function key() {
    const line = document.createElement("p");
    line.className = "key";
    run.stack.forEach((place, i) => {
      const [name, mark] = [document.createElement("span"), document.createElement("i")];
      mark.style.background = `var(--layer${i % 6})`;
      name.append(mark, run.titles[place]);
      line.append(name);
    });
    return line;
  }

  function makeCharts() {
    charts.splice(0).forEach((chart) => chart.destroy());
    find("charts").replaceChildren();
    if (!levels.length) return;
    run.titles.forEach((title, place) => {
      const box = document.createElement("div");
      const name = document.createElement("h3");
      const readout = document.createElement("p");
      box.className = "chart";
      name.textContent = title;
      readout.className = "readout";
      box.append(name);
      find("charts").append(box);
      const chart = new uPlot(chartOptions(place, find("charts").clientWidth, readout), levels[0].curves[place], box);
      if (place === 0 && run.stack) box.append(key());
      box.append(readout);
      charts.push(chart);
    });
  }

  function zoom(from, to) {
    const least = Math.max((levels.length ? levels[levels.length - 1].step_s : run.duration_s) * 4, 1e-9);
    const length = Math.min(Math.max(to - from, least), run.duration_s);
    view.from = Math.min(Math.max((from + to - length) / 2, 0), run.duration_s - length);
    view.to = view.from + length;
    const level = levels.length ? fittingLevel(find("charts").clientWidth) : -1;
    if (level !== view.level) charts.forEach((chart, place) => chart.setData(levels[level].curves[place], false));
    charts.forEach((chart) => chart.setScale("x", { min: view.from, max: view.to }));
    view.level = level;
    const step = levels.length ? `, steps of ${quantity(levels[level].step_s, "s")}` : "";
    const begin = run.begin_s || 0;
    const hours = isLong() ? ` (${clock(Math.round(begin + view.from))} to ${clock(Math.round(begin + view.to))})` : "";
    find("range").textContent = `${instant(view.from)} to ${instant(view.to)}${hours}${step}`;
    drawLanes();
  }

  function act(what) {
    const length = view.to - view.from;
    const middle = (view.from + view.to) / 2;
    if (what === "in") zoom(middle - length / 4, middle + length / 4);
    if (what === "out") zoom(middle - length, middle + length);
    if (what === "left") zoom(view.from - length / 4, view.to - length / 4);
    if (what === "right") zoom(view.from + length / 4, view.to + length / 4);
    if (what === "all") zoom(0, run.duration_s);
  }

  const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all", Home: "all" };

  // ---- lanes of windows ----

  let lanes = [];
  let windows = null;

  function unpackedLanes() {
    return run.lanes.map((lane) => ({ ...lane, share: lane.share ? unpacked(lane.share) : null, canvas: null }));
  }

  function unpackedWindows() {
    const sent = run.windows;
    return sent && {
      unit_s: sent.unit_s,
      known: sent.known,
      ids: sent.ids || {},
      lane: new Uint16Array(bytes(sent.lane)),
      index: new Uint32Array(bytes(sent.index)),
      begin: new Uint32Array(bytes(sent.begin)),
      length: new Uint32Array(bytes(sent.length)),
      energy: new Float32Array(bytes(sent.energy)),
      low: new Float32Array(bytes(sent.low)),
      high: new Float32Array(bytes(sent.high)),
    };
  }

  function makeLanes() {
    find("lanes").replaceChildren();
    lanes.forEach((lane, place) => {
      const box = document.createElement("div");
      const name = document.createElement("span");
      lane.canvas = document.createElement("canvas");
      lane.canvas.setAttribute("role", "img");
      lane.canvas.setAttribute("aria-label", `${lane.name}: ${lane.count} ${lane.kind}s`);
      box.className = "lane";
      name.textContent = `${lane.name} × ${lane.count}${lane.kind === "span" ? " spans" : ""}`;
      box.append(name, lane.canvas);
      find("lanes").append(box);
      lane.canvas.addEventListener("mousemove", (event) => tell(place, event));
      lane.canvas.addEventListener("click", (event) => tell(place, event));
    });
  }

  // How much of each pixel's time windows of the lane were open; of spans, how many were open at once.
  function cover(place, width) {
    const out = new Float32Array(width);
    const perPixel = (view.to - view.from) / width;
    const add = (from, to, weight, least) => {
      const [a, b] = [(from - view.from) / perPixel, (to - view.from) / perPixel];
      if (b < 0 || a >= width) return;
      const last = Math.min(Math.floor(b), width - 1);
      for (let i = Math.max(Math.floor(a), 0); i <= last; i++) {
        out[i] += weight * Math.max(Math.min(b, i + 1) - Math.max(a, i), least);
      }
    };
    if (windows) {
      windows.lane.forEach((lane, i) => {
        const begin = windows.begin[i] * windows.unit_s;
        if (lane === place) add(begin, begin + windows.length[i] * windows.unit_s, 1, 1e-3);
      });
    } else {
      const { share } = lanes[place];
      const bucket = run.duration_s / share.length;
      share.forEach((part, i) => part && add(i * bucket, (i + 1) * bucket, part, 0));
    }
    return out;
  }

  function drawLanes() {
    const ratio = devicePixelRatio || 1;
    const width = Math.max(find("lanes").clientWidth - axisWidth - rightGap, 50);
    lanes.forEach((lane, place) => {
      const { canvas } = lane;
      canvas.width = width * ratio;
      canvas.height = 12 * ratio;
      canvas.style.cssText = `width:${width}px;height:12px;margin-left:${axisWidth}px`;
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, canvas.width, canvas.height);
      const parts = cover(place, canvas.width);
      const full = lane.kind === "span" ? Math.max(1, parts.reduce((a, b) => Math.max(a, b), 0)) : 1;
      const hue = color("--lane");
      parts.forEach((part, x) => {
        if (part <= 0) return;
        pen.fillStyle = `rgba(${hue}, ${0.3 + 0.7 * Math.min(part / full, 1)})`;
        pen.fillRect(x, 0, 1, canvas.height);
      });
    });
  }

  function tell(place, event) {
    const box = lanes[place].canvas.getBoundingClientRect();
    const perPixel = (view.to - view.from) / box.width;
    const at = view.from + (event.clientX - box.left) * perPixel;
    if (!windows) {
      const { share } = lanes[place];
      const part = share[Math.min(Math.max(Math.floor((at / run.duration_s) * share.length), 0), share.length - 1)];
      const open = lanes[place].kind === "span" ? `${+part.toPrecision(3)} open` : `open ${+(100 * part).toPrecision(3)} % of the time`;
      find("window").textContent = `${lanes[place].name}: ${open} at ${instant(at)}`;
      return;
    }
    let best = -1;
    let nearest = 3 * perPixel;
    windows.lane.forEach((lane, i) => {
      if (lane !== place) return;
      const begin = windows.begin[i] * windows.unit_s;
      const away = Math.max(begin - at, at - begin - windows.length[i] * windows.unit_s, 0);
      if (away <= nearest) [best, nearest] = [i, away];
    });
    if (best < 0) return;
    const energy = windows.known
      ? `, ${quantity(windows.energy[best], "J")} (${quantity(windows.low[best], "J")} .. ${quantity(windows.high[best], "J")})`
      : "";
    const begin = instant(windows.begin[best] * windows.unit_s);
    find("window").textContent =
      `${lanes[place].name}, ${lanes[place].kind} ${(windows.ids[place] || {})[windows.index[best]] ?? windows.index[best]}: began at ${begin}, lasted ` +
      `${quantity(windows.length[best] * windows.unit_s, "s")}${energy}`;
  }

  // ---- tables ----

  function sortBy(table, place, head) {
    const descending = head.getAttribute("aria-sort") !== "descending";
    const value = (row) => {
      const cell = row.cells[place];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1; // what has no number stays last
      const way = typeof x === "number" ? x - y : x.localeCompare(y);
      return descending ? -way : way;
    };
    table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }

  function makeSortable(table) {
    table.querySelectorAll("th").forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => sortBy(table, place, head));
    });
  }

  // ---- start ----

  function redraw() {
    const width = find("charts").clientWidth;
    charts.forEach((chart, place) => chart.setSize({ width, height: heightOf(place) }));
    zoom(view.from, view.to);
  }

  // What the run holds; again at each piece of live news. Charts stay as they are where the channels are the same.
  let drawn = null;

  function take() {
    levels = unpackedLevels();
    lanes = unpackedLanes();
    windows = unpackedWindows();
    view.level = -1;
    const titles = JSON.stringify([run.titles, run.stack, levels.length > 0]);
    document.querySelector(".tools").hidden = find("charts").hidden = !levels.length;
    if (titles !== drawn) makeCharts();
    drawn = titles;
    makeLanes();
  }

  function makeTablesSortable(place) {
    place.querySelectorAll("table").forEach(makeSortable);
  }

  // ---- live ----

  function learn(news) {
    const atEnd = view.to >= run.duration_s;
    const whole = atEnd && view.from <= 0;
    const length = view.to - view.from;
    ({ data: run } = news);
    Object.entries(news.html).forEach(([name, html]) => {
      const place = document.querySelector(`[data-part="${name}"]`);
      if (place.contains(document.activeElement) && document.activeElement !== place) return; // someone uses it
      if (place.innerHTML === html) return;
      const sorted = [...place.querySelectorAll("table")].map((table) => {
        const heads = [...table.querySelectorAll("th")];
        const at = heads.findIndex((head) => head.hasAttribute("aria-sort"));
        return at < 0 ? null : [at, heads[at].getAttribute("aria-sort")];
      });
      place.innerHTML = html; // escaped where it was made; no script of it runs by the policy
      makeTablesSortable(place);
      [...place.querySelectorAll("table")].forEach((table, i) => {
        if (!sorted[i] || !table.querySelectorAll("th")[sorted[i][0]]) return;
        const head = table.querySelectorAll("th")[sorted[i][0]];
        if (sorted[i][1] === "ascending") head.setAttribute("aria-sort", "descending");
        sortBy(table, sorted[i][0], head);
      });
    });
    take();
    if (whole || run.duration_s <= length) zoom(0, run.duration_s);
    else if (atEnd) zoom(run.duration_s - length, run.duration_s);
    else zoom(view.from, view.to);
  }

  function follow() {
    const status = find("live");
    status.hidden = false;
    status.textContent = "live";
    const source = new EventSource("events" + location.search);
    source.onmessage = (event) => {
      status.textContent = "live";
      learn(JSON.parse(event.data));
    };
    source.addEventListener("end", () => {
      status.textContent = "the run has ended";
      source.close();
    });
    source.onerror = () => {
      status.textContent = "no connection";
    };
  }

  makeTablesSortable(document);
  take();
  setTheme(dark.matches ? "dark" : "light");
  find("theme").addEventListener("click", () => setTheme(root.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
  document.querySelectorAll("[data-zoom]").forEach((button) => {
    button.addEventListener("click", () => act(button.dataset.zoom));
  });
  find("charts").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    act(keys[event.key]);
  });
  new ResizeObserver(redraw).observe(find("charts"));
  let before = "light";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    setTheme("light");
  });
  addEventListener("afterprint", () => setTheme(before));
  if (run.live) follow();
})();
