/* Consoles of VMs for web sockets: tokens that open one, and the pumps under way. */
#pragma once
#include <base/ref.h>

struct console_tokens;
struct server;
struct session;
struct console_tokens *console_tokens_new(struct server *server);
/* Ends every open console and waits for its thread; none is opened any more. */
void console_tokens_stop(struct console_tokens *tokens);
/* After console_tokens_stop and the end of the HTTP servers. */
void console_tokens_free(struct console_tokens *tokens);
/* The session ended: its consoles close and its tokens are void. */
void consoles_session_gone(struct console_tokens *tokens, const struct session *session);
