"""The network: a VGG that returns named feature maps, and the reading of its weights."""
