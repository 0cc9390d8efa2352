//! What a daemon needs around its work: logging, signals, systemd, the control socket.

pub mod control;
