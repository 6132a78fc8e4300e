/* What of the protocol tus this server speaks. */
#pragma once

#define TUS_VERSION "1.0.0"
#define TUS_EXTENSIONS "creation,checksum,expiration,termination"
#define TUS_CHECKSUMS "sha1,sha256"
