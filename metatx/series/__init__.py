"""Tables in time order: their clocks, their series, windows of past and future."""
