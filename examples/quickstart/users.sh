#!/bin/sh
# Twenty questions a second, each a conversation of its own, until Ctrl-C.
n=0
while true; do
  n=$((n + 1))
  curl --silent --output /dev/null --max-time 10 http://127.0.0.1:8080/v1/chat/completions \
    --header 'host: support.example.com' --header 'content-type: application/json' --header "x-session-id: $$-$n" \
    --data '{"messages": [{"role": "user", "content": "Where is my order 4711?"}]}' &
  sleep 0.05
done
