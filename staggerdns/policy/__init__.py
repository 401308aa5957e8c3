"""Which names go where, for whom, and which are not answered at all."""
