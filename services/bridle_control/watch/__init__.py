"""How clients follow sessions: cursor readers over the store, live text, the sessions feed."""
