/* The functions that all paths share as text. Each fg_resolver_<path>.c includes this file after its look_up_edge(), so
 * that they are compiled for the CPU of that path. SPDX-License-Identifier: Apache-2.0 */

static void draw(struct fg_table *t)
{
	for (size_t line = 0; line < t->count; line++) {
		t->from_ns[line] = fg_clock_later_ns(t->knot_ns[line], t->high_ns[line + 1] - 1);
		t->base[line] = (double)t->total[line];
		t->slope[line] = (double)(t->total[line + 1] - t->total[line]) /
						 (double)fg_clock_later_ns(t->knot_ns[line + 1] - t->from_ns[line], 1);
	}
	/* A look-up may compare with breaks past the last one. */
	for (size_t i = t->count + 1; i <= t->count + FG_TABLE_PAST; i++)
		t->low_ns[i] = t->high_ns[i] = t->knot_ns[i] = INT64_MAX;
}

/* A begin is written like an instant: the subtraction comes with the end. */
static void look_up(const struct fg_table *t, struct fg_stream *s, int64_t until_ns)
{
	if (s->edge == FG_END)
		look_up_edge(t, s, until_ns, FG_END);
	else
		look_up_edge(t, s, until_ns, FG_INSTANT);
}
