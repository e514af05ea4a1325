"""`jaxstyle bench`: what the renderer does on this device, measured."""
