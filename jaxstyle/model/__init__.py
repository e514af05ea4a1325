"""The network: a VGG as named feature maps, and where its weights come from."""
