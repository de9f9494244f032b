"""The pictures: `style` and `text` are shared, `pictures` lists them all, every other file is one picture."""
