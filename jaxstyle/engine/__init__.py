"""The engine of a run: from files, through the lanes of the device, to files. (`jaxstyle.render` is its function.)"""
