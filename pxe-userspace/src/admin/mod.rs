//! The admin listener: API, metrics, health. Nothing of it is on the boot network.
