"""The fast, exact network adapter for VGGs. Nothing outside of this folder knows that a network is a VGG."""
