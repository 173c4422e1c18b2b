//! Sockets, ICE-lite, DTLS and SRTP.
