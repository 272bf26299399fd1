"""The bundled data set Shapes, the models trained on it, and how both were made."""
