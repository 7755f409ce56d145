"""What every page stands in: address, state, controls, and what is kept between reruns."""
