//! Nothing but dependencies, so that every command of this workspace compiles them with the same features.
