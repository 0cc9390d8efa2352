//! Stub until the policy lands.
impl super::Policy {
    /// Decides.
    pub fn decide(
        &self,
        _request: &crate::model::ContactRequest,
        _circumstances: &super::Circumstances,
        _book: &super::Book,
        _now: jiff::Timestamp,
    ) -> super::Decision {
        todo!()
    }
}
