//! An imitation of the platform, for the demo, tests and benches.
