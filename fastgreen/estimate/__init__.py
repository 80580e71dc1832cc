"""Energy of layers, and of whole networks from their layers, without running them.

The files of this folder; a file imports only files to the left of its arrow or in a row above::

    layers (what a layer is)  <-  counts (exact counts)  <-  work (bytes, taps, paths of the CPU library), standins
    tables (measured data)    <-  prices (their fit)  <-  choice (of work terms), spread (ranges)
                              <-  linear, physical (the two kinds of predictor)  <-  published, modelfile
                              <-  network (totals, shares, batch grids)
    builtin, plain, torch_reader <- torch_functions, onnx_reader <- onnx_nodes, onnx_shapes  (where layers come from)
    inputs (shapes of inputs), contraction (products of two tensors)  are used by these readers
    transformer  <-  transformer_layers  <-  language_model  (generations, from a configuration of transformers)
    evaluate, baseline, subsets, pictures  (how good a model is)
    sampling  <-  collector  (new measurements, made with fastgreen.Monitor)

The sizes of a layer may be arrays of any shapes that broadcast together. Energies are joules per forward pass of the
whole batch.
"""

from __future__ import annotations

from fastgreen.guards.lazy_names import lazy_names

_HOME = {
    "Layer": ".layers",
    "KINDS": ".layers",
    "macs": ".counts",
    "parameters": ".counts",
    "output_size": ".counts",
    "Table": ".tables",
    "read_table": ".tables",
    "read_tables": ".tables",
    "read_networks": ".tables",
    "LinearModel": ".linear",
    "PhysicalModel": ".physical",
    "ModelSet": ".modelfile",
    "load_models": ".modelfile",
    "default_models": ".modelfile",
    "Network": ".network",
    "Estimate": ".network",
    "LanguageModel": ".language_model",
    "Generation": ".language_model",
    "read_transformer": ".transformer",
    "zoo": ".builtin",
    "from_torch": ".torch_reader",
    "from_onnx": ".onnx_reader",
    "InputShape": ".inputs",
    "from_file": ".plain",
    "collect": ".collector",
    "ablation": ".subsets",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
