"""The network adapter for any network of convolutions, by autograd. `vgg/` is exact and much faster for VGGs."""
