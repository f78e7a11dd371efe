"""Files below everything: tensors read without running what is in them, a task's files within bounds, what is kept between runs."""
