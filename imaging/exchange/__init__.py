"""Images from and for other programs: virtual disks, FOG and Clonezilla folders, and bundles of our own."""
