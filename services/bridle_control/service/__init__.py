"""SessionService: sessions and the verbs that steer them, one module for each kind of verb."""
