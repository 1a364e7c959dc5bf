"""Training of the tiny zoo: synthetic captioned images and one module per thing that is trained on them."""
