"""The pictures: `style` is what all share, `pictures` lists them, every other file is one picture."""
