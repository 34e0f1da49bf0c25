import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_ALLOW: _ClassVar[Outcome]
    OUTCOME_DENY: _ClassVar[Outcome]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_WITHIN_LIMIT: _ClassVar[Reason]
    REASON_NO_POLICY: _ClassVar[Reason]
    REASON_LIMIT_EXCEEDED: _ClassVar[Reason]
    REASON_COST_EXCEEDS_LIMIT: _ClassVar[Reason]
    REASON_CONNECTION_LIMIT_EXCEEDED: _ClassVar[Reason]
    REASON_PARTITION_MISSING: _ClassVar[Reason]
    REASON_STORE_UNAVAILABLE: _ClassVar[Reason]
    REASON_TOKEN_VALID: _ClassVar[Reason]
    REASON_TOKEN_MISSING: _ClassVar[Reason]
    REASON_TOKEN_MALFORMED: _ClassVar[Reason]
    REASON_TOKEN_SIGNATURE_INVALID: _ClassVar[Reason]
    REASON_TOKEN_ALGORITHM_NOT_ALLOWED: _ClassVar[Reason]
    REASON_TOKEN_KEY_UNKNOWN: _ClassVar[Reason]
    REASON_TOKEN_EXPIRED: _ClassVar[Reason]
    REASON_TOKEN_NOT_YET_VALID: _ClassVar[Reason]
    REASON_TOKEN_ISSUER_INVALID: _ClassVar[Reason]
    REASON_TOKEN_AUDIENCE_INVALID: _ClassVar[Reason]
    REASON_TOKEN_TYPE_INVALID: _ClassVar[Reason]
    REASON_TOKEN_CLAIM_MISSING: _ClassVar[Reason]
    REASON_TOKEN_LIFETIME_TOO_LONG: _ClassVar[Reason]
    REASON_TOKEN_REVOKED: _ClassVar[Reason]
    REASON_ORIGIN_NOT_ALLOWED: _ClassVar[Reason]
    REASON_PATH_AMBIGUOUS: _ClassVar[Reason]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_EXACT: _ClassVar[Mode]
    MODE_LEASED: _ClassVar[Mode]
    MODE_LOCAL: _ClassVar[Mode]
    MODE_FAILED_OPEN: _ClassVar[Mode]
    MODE_FAILED_CLOSED: _ClassVar[Mode]

class Algorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALGORITHM_UNSPECIFIED: _ClassVar[Algorithm]
    ALGORITHM_SLIDING_WINDOW: _ClassVar[Algorithm]
    ALGORITHM_TOKEN_BUCKET: _ClassVar[Algorithm]
    ALGORITHM_FIXED_WINDOW: _ClassVar[Algorithm]
    ALGORITHM_CONCURRENCY: _ClassVar[Algorithm]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_ALLOW: Outcome
OUTCOME_DENY: Outcome
REASON_UNSPECIFIED: Reason
REASON_WITHIN_LIMIT: Reason
REASON_NO_POLICY: Reason
REASON_LIMIT_EXCEEDED: Reason
REASON_COST_EXCEEDS_LIMIT: Reason
REASON_CONNECTION_LIMIT_EXCEEDED: Reason
REASON_PARTITION_MISSING: Reason
REASON_STORE_UNAVAILABLE: Reason
REASON_TOKEN_VALID: Reason
REASON_TOKEN_MISSING: Reason
REASON_TOKEN_MALFORMED: Reason
REASON_TOKEN_SIGNATURE_INVALID: Reason
REASON_TOKEN_ALGORITHM_NOT_ALLOWED: Reason
REASON_TOKEN_KEY_UNKNOWN: Reason
REASON_TOKEN_EXPIRED: Reason
REASON_TOKEN_NOT_YET_VALID: Reason
REASON_TOKEN_ISSUER_INVALID: Reason
REASON_TOKEN_AUDIENCE_INVALID: Reason
REASON_TOKEN_TYPE_INVALID: Reason
REASON_TOKEN_CLAIM_MISSING: Reason
REASON_TOKEN_LIFETIME_TOO_LONG: Reason
REASON_TOKEN_REVOKED: Reason
REASON_ORIGIN_NOT_ALLOWED: Reason
REASON_PATH_AMBIGUOUS: Reason
MODE_UNSPECIFIED: Mode
MODE_EXACT: Mode
MODE_LEASED: Mode
MODE_LOCAL: Mode
MODE_FAILED_OPEN: Mode
MODE_FAILED_CLOSED: Mode
ALGORITHM_UNSPECIFIED: Algorithm
ALGORITHM_SLIDING_WINDOW: Algorithm
ALGORITHM_TOKEN_BUCKET: Algorithm
ALGORITHM_FIXED_WINDOW: Algorithm
ALGORITHM_CONCURRENCY: Algorithm

class CheckLimitRequest(_message.Message):
    __slots__ = ("domain", "entries", "policies", "cost", "request_id", "settle_within")
    class EntriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLE_WITHIN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    entries: _containers.ScalarMap[str, str]
    policies: _containers.RepeatedScalarFieldContainer[str]
    cost: int
    request_id: str
    settle_within: _duration_pb2.Duration
    def __init__(self, domain: _Optional[str] = ..., entries: _Optional[_Mapping[str, str]] = ..., policies: _Optional[_Iterable[str]] = ..., cost: _Optional[int] = ..., request_id: _Optional[str] = ..., settle_within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CheckLimitResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class CheckLimitsRequest(_message.Message):
    __slots__ = ("checks",)
    class Check(_message.Message):
        __slots__ = ("id", "request")
        ID_FIELD_NUMBER: _ClassVar[int]
        REQUEST_FIELD_NUMBER: _ClassVar[int]
        id: int
        request: CheckLimitRequest
        def __init__(self, id: _Optional[int] = ..., request: _Optional[_Union[CheckLimitRequest, _Mapping]] = ...) -> None: ...
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[CheckLimitsRequest.Check]
    def __init__(self, checks: _Optional[_Iterable[_Union[CheckLimitsRequest.Check, _Mapping]]] = ...) -> None: ...

class CheckLimitsResponse(_message.Message):
    __slots__ = ("results",)
    class Result(_message.Message):
        __slots__ = ("id", "decision", "error")
        ID_FIELD_NUMBER: _ClassVar[int]
        DECISION_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        id: int
        decision: Decision
        error: CheckLimitsResponse.Error
        def __init__(self, id: _Optional[int] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., error: _Optional[_Union[CheckLimitsResponse.Error, _Mapping]] = ...) -> None: ...
    class Error(_message.Message):
        __slots__ = ("code", "message")
        CODE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        code: int
        message: str
        def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[CheckLimitsResponse.Result]
    def __init__(self, results: _Optional[_Iterable[_Union[CheckLimitsResponse.Result, _Mapping]]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("outcome", "reason", "mode", "retry_after", "statuses", "http_status", "headers", "body", "reservation")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    reason: Reason
    mode: Mode
    retry_after: _duration_pb2.Duration
    statuses: _containers.RepeatedCompositeFieldContainer[PolicyStatus]
    http_status: int
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    body: Body
    reservation: Reservation
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[_Union[Reason, str]] = ..., mode: _Optional[_Union[Mode, str]] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., statuses: _Optional[_Iterable[_Union[PolicyStatus, _Mapping]]] = ..., http_status: _Optional[int] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., body: _Optional[_Union[Body, _Mapping]] = ..., reservation: _Optional[_Union[Reservation, _Mapping]] = ...) -> None: ...

class Reservation(_message.Message):
    __slots__ = ("ticket", "settle_within")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    SETTLE_WITHIN_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    settle_within: _duration_pb2.Duration
    def __init__(self, ticket: _Optional[bytes] = ..., settle_within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PolicyStatus(_message.Message):
    __slots__ = ("policy", "algorithm", "limit", "window", "remaining", "reset_after", "violated", "shadow", "mode", "bound")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_AFTER_FIELD_NUMBER: _ClassVar[int]
    VIOLATED_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    policy: str
    algorithm: Algorithm
    limit: int
    window: _duration_pb2.Duration
    remaining: int
    reset_after: _duration_pb2.Duration
    violated: bool
    shadow: bool
    mode: Mode
    bound: int
    def __init__(self, policy: _Optional[str] = ..., algorithm: _Optional[_Union[Algorithm, str]] = ..., limit: _Optional[int] = ..., window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., remaining: _Optional[int] = ..., reset_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., violated: bool = ..., shadow: bool = ..., mode: _Optional[_Union[Mode, str]] = ..., bound: _Optional[int] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Body(_message.Message):
    __slots__ = ("content_type", "content")
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    content: bytes
    def __init__(self, content_type: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("domain", "entries", "policies", "lease_id", "holder", "token")
    class EntriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    entries: _containers.ScalarMap[str, str]
    policies: _containers.RepeatedScalarFieldContainer[str]
    lease_id: str
    holder: str
    token: TokenReference
    def __init__(self, domain: _Optional[str] = ..., entries: _Optional[_Mapping[str, str]] = ..., policies: _Optional[_Iterable[str]] = ..., lease_id: _Optional[str] = ..., holder: _Optional[str] = ..., token: _Optional[_Union[TokenReference, _Mapping]] = ...) -> None: ...

class TokenReference(_message.Message):
    __slots__ = ("issuer", "subject", "token_id", "issued_at", "expires_at")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    subject: str
    token_id: str
    issued_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, issuer: _Optional[str] = ..., subject: _Optional[str] = ..., token_id: _Optional[str] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "ttl", "renew_after", "connection")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    RENEW_AFTER_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    ttl: _duration_pb2.Duration
    renew_after: _duration_pb2.Duration
    connection: Connection
    def __init__(self, lease_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., renew_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., connection: _Optional[_Union[Connection, _Mapping]] = ...) -> None: ...

class AcquireConnectionRequest(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ...) -> None: ...

class AcquireConnectionResponse(_message.Message):
    __slots__ = ("decision", "lease")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    lease: Lease
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class RenewConnectionsRequest(_message.Message):
    __slots__ = ("connections",)
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    connections: _containers.RepeatedCompositeFieldContainer[Connection]
    def __init__(self, connections: _Optional[_Iterable[_Union[Connection, _Mapping]]] = ...) -> None: ...

class RenewConnectionsResponse(_message.Message):
    __slots__ = ("renewals",)
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[RenewConnectionsResponse.State]
        STATE_HELD: _ClassVar[RenewConnectionsResponse.State]
        STATE_LOST: _ClassVar[RenewConnectionsResponse.State]
        STATE_REVOKED: _ClassVar[RenewConnectionsResponse.State]
        STATE_UNKNOWN: _ClassVar[RenewConnectionsResponse.State]
        STATE_EXPIRED: _ClassVar[RenewConnectionsResponse.State]
    STATE_UNSPECIFIED: RenewConnectionsResponse.State
    STATE_HELD: RenewConnectionsResponse.State
    STATE_LOST: RenewConnectionsResponse.State
    STATE_REVOKED: RenewConnectionsResponse.State
    STATE_UNKNOWN: RenewConnectionsResponse.State
    STATE_EXPIRED: RenewConnectionsResponse.State
    class Renewal(_message.Message):
        __slots__ = ("lease_id", "state", "renew_after")
        LEASE_ID_FIELD_NUMBER: _ClassVar[int]
        STATE_FIELD_NUMBER: _ClassVar[int]
        RENEW_AFTER_FIELD_NUMBER: _ClassVar[int]
        lease_id: str
        state: RenewConnectionsResponse.State
        renew_after: _duration_pb2.Duration
        def __init__(self, lease_id: _Optional[str] = ..., state: _Optional[_Union[RenewConnectionsResponse.State, str]] = ..., renew_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
    RENEWALS_FIELD_NUMBER: _ClassVar[int]
    renewals: _containers.RepeatedCompositeFieldContainer[RenewConnectionsResponse.Renewal]
    def __init__(self, renewals: _Optional[_Iterable[_Union[RenewConnectionsResponse.Renewal, _Mapping]]] = ...) -> None: ...

class ReleaseConnectionRequest(_message.Message):
    __slots__ = ("connection",)
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    connection: Connection
    def __init__(self, connection: _Optional[_Union[Connection, _Mapping]] = ...) -> None: ...

class ReleaseConnectionResponse(_message.Message):
    __slots__ = ("released",)
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: bool
    def __init__(self, released: bool = ...) -> None: ...

class ValidateTokenRequest(_message.Message):
    __slots__ = ("token", "issuer")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    token: str
    issuer: str
    def __init__(self, token: _Optional[str] = ..., issuer: _Optional[str] = ...) -> None: ...

class ValidateTokenResponse(_message.Message):
    __slots__ = ("decision", "claims")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    claims: Claims
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., claims: _Optional[_Union[Claims, _Mapping]] = ...) -> None: ...

class Claims(_message.Message):
    __slots__ = ("issuer", "subject", "audience", "expires_at", "not_before", "issued_at", "token_id", "all", "user")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    subject: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    expires_at: _timestamp_pb2.Timestamp
    not_before: _timestamp_pb2.Timestamp
    issued_at: _timestamp_pb2.Timestamp
    token_id: str
    all: _struct_pb2.Struct
    user: str
    def __init__(self, issuer: _Optional[str] = ..., subject: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., token_id: _Optional[str] = ..., all: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("token", "token_id", "subject")
    class TokenId(_message.Message):
        __slots__ = ("issuer", "id", "expires_at")
        ISSUER_FIELD_NUMBER: _ClassVar[int]
        ID_FIELD_NUMBER: _ClassVar[int]
        EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
        issuer: str
        id: str
        expires_at: _timestamp_pb2.Timestamp
        def __init__(self, issuer: _Optional[str] = ..., id: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    class Subject(_message.Message):
        __slots__ = ("issuer", "subject")
        ISSUER_FIELD_NUMBER: _ClassVar[int]
        SUBJECT_FIELD_NUMBER: _ClassVar[int]
        issuer: str
        subject: str
        def __init__(self, issuer: _Optional[str] = ..., subject: _Optional[str] = ...) -> None: ...
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    token: str
    token_id: RevokeTokenRequest.TokenId
    subject: RevokeTokenRequest.Subject
    def __init__(self, token: _Optional[str] = ..., token_id: _Optional[_Union[RevokeTokenRequest.TokenId, _Mapping]] = ..., subject: _Optional[_Union[RevokeTokenRequest.Subject, _Mapping]] = ...) -> None: ...

class RevokeTokenResponse(_message.Message):
    __slots__ = ("newly_revoked",)
    NEWLY_REVOKED_FIELD_NUMBER: _ClassVar[int]
    newly_revoked: bool
    def __init__(self, newly_revoked: bool = ...) -> None: ...

class AuthorizeRequest(_message.Message):
    __slots__ = ("domain", "http", "token", "entries", "cost", "request_id", "connection", "policies", "settle_within")
    class EntriesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ConnectionOffer(_message.Message):
        __slots__ = ("lease_id", "holder")
        LEASE_ID_FIELD_NUMBER: _ClassVar[int]
        HOLDER_FIELD_NUMBER: _ClassVar[int]
        lease_id: str
        holder: str
        def __init__(self, lease_id: _Optional[str] = ..., holder: _Optional[str] = ...) -> None: ...
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    HTTP_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    SETTLE_WITHIN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    http: HttpRequest
    token: str
    entries: _containers.ScalarMap[str, str]
    cost: int
    request_id: str
    connection: AuthorizeRequest.ConnectionOffer
    policies: _containers.RepeatedScalarFieldContainer[str]
    settle_within: _duration_pb2.Duration
    def __init__(self, domain: _Optional[str] = ..., http: _Optional[_Union[HttpRequest, _Mapping]] = ..., token: _Optional[str] = ..., entries: _Optional[_Mapping[str, str]] = ..., cost: _Optional[int] = ..., request_id: _Optional[str] = ..., connection: _Optional[_Union[AuthorizeRequest.ConnectionOffer, _Mapping]] = ..., policies: _Optional[_Iterable[str]] = ..., settle_within: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HttpRequest(_message.Message):
    __slots__ = ("method", "scheme", "host", "path", "peer_address", "headers")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    method: str
    scheme: str
    host: str
    path: str
    peer_address: str
    headers: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, method: _Optional[str] = ..., scheme: _Optional[str] = ..., host: _Optional[str] = ..., path: _Optional[str] = ..., peer_address: _Optional[str] = ..., headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class AuthorizeResponse(_message.Message):
    __slots__ = ("decision", "route", "claims", "lease", "upstream_headers", "remove_headers", "client_address")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_HEADERS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_HEADERS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    route: str
    claims: Claims
    lease: Lease
    upstream_headers: _containers.RepeatedCompositeFieldContainer[Header]
    remove_headers: _containers.RepeatedScalarFieldContainer[str]
    client_address: str
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ..., route: _Optional[str] = ..., claims: _Optional[_Union[Claims, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., upstream_headers: _Optional[_Iterable[_Union[Header, _Mapping]]] = ..., remove_headers: _Optional[_Iterable[str]] = ..., client_address: _Optional[str] = ...) -> None: ...

class SettleCostRequest(_message.Message):
    __slots__ = ("ticket", "cost", "policy_costs")
    class PolicyCostsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TICKET_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    POLICY_COSTS_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    cost: int
    policy_costs: _containers.ScalarMap[str, int]
    def __init__(self, ticket: _Optional[bytes] = ..., cost: _Optional[int] = ..., policy_costs: _Optional[_Mapping[str, int]] = ...) -> None: ...

class SettleCostResponse(_message.Message):
    __slots__ = ("state", "policies", "delay")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[SettleCostResponse.State]
        STATE_SETTLED: _ClassVar[SettleCostResponse.State]
        STATE_TOO_LATE: _ClassVar[SettleCostResponse.State]
    STATE_UNSPECIFIED: SettleCostResponse.State
    STATE_SETTLED: SettleCostResponse.State
    STATE_TOO_LATE: SettleCostResponse.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    state: SettleCostResponse.State
    policies: _containers.RepeatedCompositeFieldContainer[PolicySettlement]
    delay: _duration_pb2.Duration
    def __init__(self, state: _Optional[_Union[SettleCostResponse.State, str]] = ..., policies: _Optional[_Iterable[_Union[PolicySettlement, _Mapping]]] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class PolicySettlement(_message.Message):
    __slots__ = ("policy", "reserved", "cost", "returned", "charged", "remaining", "beyond_limit", "delay")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    CHARGED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    BEYOND_LIMIT_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    reserved: int
    cost: int
    returned: int
    charged: int
    remaining: int
    beyond_limit: int
    delay: _duration_pb2.Duration
    def __init__(self, policy: _Optional[str] = ..., reserved: _Optional[int] = ..., cost: _Optional[int] = ..., returned: _Optional[int] = ..., charged: _Optional[int] = ..., remaining: _Optional[int] = ..., beyond_limit: _Optional[int] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
