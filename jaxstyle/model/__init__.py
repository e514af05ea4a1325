"""The network: VGG16 as named feature maps, and where its weights come from."""
