"""The networks that the converter knows, written in plain torch with timm's parameter names."""
