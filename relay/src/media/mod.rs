//! RTP and RTCP as decisions: header rewriting, history, feedback, continuity. Pure: no clock, no socket.
