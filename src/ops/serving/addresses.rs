//! At which addresses a service is served, or why it is not served there. `status` shows the problems. `page login` must
//! not send a person with a secret to a port that another process holds.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses of one service. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ServiceAddresses(Arc<Mutex<Vec<ServiceAddress>>>);

/// One address and what happens there.
#[derive(Debug, Clone)]
pub struct ServiceAddress {
    /// For people: an address, a path, or what was handed over.
    pub name: String,
    /// Its kind.
    pub kind: AddressKind,
    /// Whether it is served.
    pub state: ServingState,
}

/// The kind of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// A TCP port.
    Port,
    /// A Unix socket.
    Socket,
}

/// Whether a service is served at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingState {
    /// It is; if it is a port, at this one.
    Served(Option<SocketAddr>),
    /// It is not, for this reason.
    Refused(String),
    /// Not known yet.
    NotYet,
}

/// One address, reported by the task that serves it.
#[derive(Debug, Clone)]
pub struct ServingReporter {
    addresses: ServiceAddresses,
    index: usize,
}

impl ServiceAddresses {
    /// A further address, of which nothing is known yet.
    pub fn add(&self, name: &str, kind: AddressKind) -> ServingReporter {
        let mut addresses = self.locked();
        addresses.push(ServiceAddress { name: name.to_owned(), kind, state: ServingState::NotYet });
        ServingReporter { addresses: self.clone(), index: addresses.len() - 1 }
    }

    /// Each address and its state.
    pub fn all(&self) -> Vec<ServiceAddress> {
        self.locked().clone()
    }

    /// Each address where the service is not served, and why.
    pub fn problems(&self) -> Vec<(String, String)> {
        let addresses = self.locked();
        let refused = addresses.iter().filter_map(|address| match &address.state {
            ServingState::Refused(why) => Some((address.name.clone(), why.clone())),
            ServingState::Served(_) | ServingState::NotYet => None,
        });
        refused.collect()
    }

    /// A poisoned lock is fine: each address is consistent at any moment.
    fn locked(&self) -> MutexGuard<'_, Vec<ServiceAddress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServingReporter {
    /// Records that the service is served there; if it is a port, at this one.
    pub fn served(&self, at: Option<SocketAddr>) {
        self.report(ServingState::Served(at));
    }

    /// Records that it is not served there, for this reason.
    pub fn refused(&self, why: &str) {
        self.report(ServingState::Refused(why.to_owned()));
    }

    fn report(&self, state: ServingState) {
        if let Some(address) = self.addresses.locked().get_mut(self.index) {
            address.state = state;
        }
    }
}
