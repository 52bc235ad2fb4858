"""HTTP/1.1 as text: heads read and built, body framing, prebuilt answers (RFC 9110, RFC 9112).

This room turns bytes into facts and facts into bytes. It knows no socket, no parser object, no policy and no dialect;
the parsing of tokens in a head is llhttp's work (`dataplane`), the rules that llhttp leaves open are here.
"""
