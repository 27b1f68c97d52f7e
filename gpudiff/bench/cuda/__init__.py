"""The benchmark on a GPU (``gpudiff bench --device cuda``): data that lie there, its clocks, its ceilings."""
