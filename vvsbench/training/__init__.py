"""Training of the zoos: synthetic captioned images and one module per thing that is trained on them."""
