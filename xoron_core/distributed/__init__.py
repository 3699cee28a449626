"""Several processes that train one model: who a rank is, and what ranks tell each other."""
