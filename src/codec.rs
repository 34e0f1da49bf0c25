//! Protobuf on the wire, with our bounds and our words for bytes that are no message.
//!
//! tonic's own codec answers INTERNAL to bytes that do not decode, as if the fault were the server's, and takes
//! 8 KiB of buffer a message. A request that does not decode, or is over the bound of its type, is
//! INVALID_ARGUMENT here.

use prost::Message;
use std::any::type_name;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Bytes of a buffer to begin with: a decision fits.
const BUFFER: usize = 512;
/// Bytes after which a stream yields to the connection.
const YIELD: usize = 32 * 1024;
/// Most bytes of a request.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Most bytes of a batch: a renewal, or one message of a stream of checks.
pub const MAX_BATCH: usize = 1024 * 1024;

/// The codec of every service of ours.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Out<T>;
    type Decoder = In<U>;

    fn encoder(&mut self) -> Out<T> {
        Out(PhantomData)
    }

    fn decoder(&mut self) -> In<U> {
        In(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct Out<T>(PhantomData<T>);

impl<T: Message> Encoder for Out<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(format!("the answer does not encode: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD)
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct In<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for In<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use bytes::Buf as _;
        let (name, most) = (short_name::<U>(), bound::<U>());
        if from.remaining() > most {
            let size = from.remaining();
            return Err(Status::invalid_argument(format!("{name}: {size} bytes, at most {most}")));
        }
        match U::decode(from) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(Status::invalid_argument(format!("{name}: not a protobuf message: {error}"))),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD)
    }
}

fn short_name<U>() -> &'static str {
    type_name::<U>().rsplit("::").next().unwrap_or("message")
}

/// Answers are bounded by what they answer; requests by their kind, and what nobody bounded has the smallest bound.
fn bound<U>() -> usize {
    match short_name::<U>() {
        "RenewConnectionsRequest"
        | "CheckLimitsRequest"
        | "CheckRequest"
        | "RateLimitRequest"
        | "ProcessingRequest"
        | "StreamAccessLogsMessage" => MAX_BATCH,
        name if name.ends_with("Response") => usize::MAX,
        _ => MAX_REQUEST,
    }
}
