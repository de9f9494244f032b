"""The pictures: `style` and `labels` are shared, `registry` lists them all, every other file is one picture."""
