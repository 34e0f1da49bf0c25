//! A TCP proxy that writes its log to quotad: nothing there holds a lease, and nothing breaks.

use crate::harness::until;
use crate::leases::{Way, enter, enter_soon, handshake, plan, refused};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Beside the listener that is shipped. What a client says of itself in the PROXY protocol is put where ext_authz puts
/// its lease.
const LISTENER: &str = r#"
  listeners:
  - name: tcp
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    listener_filters:
    - name: envoy.filters.listener.proxy_protocol
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol
        allow_requests_without_proxy_protocol: true
        rules: [{tlv_type: 234, on_tlv_present: {metadata_namespace: envoy.filters.http.ext_authz, key: lease}}]
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: app
          access_log_options:
            flush_access_log_on_start: true
            flush_access_log_on_connected: true
            access_log_flush_interval: 0.2s
          access_log:
          - name: envoy.access_loggers.tcp_grpc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig
              common_config:
                log_name: tcp
                transport_api_version: V3
                grpc_service: {envoy_grpc: {cluster_name: quotad}}
                buffer_size_bytes: 0
                buffer_flush_interval: 0.1s
"#;

/// A connection with a PROXY header of version 2 that holds one value.
async fn connect(address: SocketAddr, value: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    let length = u16::try_from(value.len()).unwrap();
    header.extend((12 + 3 + length).to_be_bytes());
    header.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x10, 0x00, 0x20, 0x00, 234]);
    header.extend(length.to_be_bytes());
    header.extend(value);
    stream.write_all(&header).await.unwrap();
    stream
}

/// Asks the application for something through the connection.
async fn asks(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /tcp HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut bytes = vec![0; 12];
    stream.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn the_log_of_a_tcp_proxy_breaks_nothing_with_or_without_a_lease_that_a_client_made_up() {
    let bed = plan(Way::AccessLog).envoy("\n  listeners:\n", LISTENER).start().await;
    let ask = handshake(&bed, Way::AccessLog);
    let (first, mut second) = (enter(&bed, &ask).await, enter(&bed, &ask).await);
    let tcp = bed.envoy.listener("tcp").await;
    let written = async || bed.envoy.stat("access_logs.grpc_access_log.grpc_entries_flushed").await;
    let before = written().await;
    let mut plain = TcpStream::connect(tcp).await.unwrap();
    assert_eq!(asks(&mut plain).await, "HTTP/1.1 200");
    let mut open = vec![plain];
    for made_up in [
        &b"x"[..],
        &[b'x'; 1_000],
        br#"{"id":"a","domain":"","policies":["sockets-per-user"],"entries":{"user":"alice"}}"#,
    ] {
        let mut stream = connect(tcp, made_up).await;
        assert_eq!(asks(&mut stream).await, "HTTP/1.1 200");
        open.push(stream);
    }
    until("starts and periods are told", async || written().await >= before + 16).await;
    drop(open);
    until("each end is told", async || bed.envoy.stat("tcp.tcp.downstream_cx_active").await == 0).await;
    let after = written().await;
    // The log of the sockets goes on beside it.
    refused(&bed, Way::AccessLog, &ask).await;
    drop(first);
    let third = enter_soon(&bed, &ask).await;
    refused(&bed, Way::AccessLog, &ask).await;
    assert!(second.talks().await);
    let mut again = TcpStream::connect(tcp).await.unwrap();
    assert_eq!(asks(&mut again).await, "HTTP/1.1 200");
    until("and that of the proxy", async || written().await > after).await;
    assert_eq!(bed.envoy.stat("access_logs.grpc_access_log.grpc_entries_flush_failed").await, 0);
    assert_eq!(bed.envoy.stat("cluster.quotad.upstream_rq_rx_reset").await, 0, "no stream was refused");
    drop(third);
}
