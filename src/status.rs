//! The one table from errors to gRPC statuses.
//!
//! A caller gets the public message; the detail of a store's failure goes to the log, where it is handled. A denial
//! never comes this way: Envoy and careless callers take an error for leave to let the request through.

use crate::engine::policy_set::LookupError;
use crate::service::ServiceError;
use crate::store::StoreError;
use tonic::{Code, Status};

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let code = match &error {
            ServiceError::Invalid { .. } | ServiceError::Lookup(LookupError::WrongKind { .. }) => {
                Code::InvalidArgument
            }
            ServiceError::Lookup(_) => Code::NotFound,
            // What a drop-in for envoyproxy/ratelimit is expected to say.
            ServiceError::RateLimit(_) => Code::Unknown,
            ServiceError::NoRoom => Code::ResourceExhausted,
            ServiceError::TooLate | ServiceError::InDoubt => Code::DeadlineExceeded,
            ServiceError::Store(StoreError::Refused(_) | StoreError::Disk(_)) => Code::Internal,
            ServiceError::Store(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_code_and_names_its_field() {
        let status = Status::from(ServiceError::invalid("cost", "too much"));
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "cost: too much"));
        let unknown = LookupError::UnknownDomain("x".to_owned());
        assert_eq!(Status::from(ServiceError::from(unknown)).code(), Code::NotFound);
        assert_eq!(Status::from(ServiceError::TooLate).code(), Code::DeadlineExceeded);
        assert_eq!(Status::from(ServiceError::NoRoom).code(), Code::ResourceExhausted);
        let away = StoreError::Unreachable("redis://secret@host".to_owned());
        let status = Status::from(ServiceError::from(away));
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!status.message().contains("secret"), "the detail is for the log alone");
    }
}
