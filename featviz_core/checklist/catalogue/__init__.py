"""How well the checklist does: every fault on drawn set-ups, and healthy set-ups of every kind.

`python -m featviz_core.checklist.catalogue` runs it. What the checks were tuned on (networks plain, cnn, vit and tuned,
on Shapes) is kept apart from what is only reported on (the residual network, and everything on Textures).
"""
