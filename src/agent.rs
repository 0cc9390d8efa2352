//! One agent: wires the stages.
