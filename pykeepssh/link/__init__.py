"""The life of a link, pure: what it is, what its end means, what follows, and the words for it."""
