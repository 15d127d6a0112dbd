"""The kinds of session, in the words that every floor uses."""

QUERY = "query"  # asks ssh for something other than a connection
STREAM = "stream"  # bytes in, bytes out: ssh takes kssh's place
SHELL = "shell"  # a login shell on a terminal
ATTACH = "attach"  # a command that attaches to a terminal multiplexer
COMMAND = "command"  # any other command on a terminal
TUNNEL = "tunnel"  # no remote command: forwards only
