/* Writing XML straight into a buffer. */
#pragma once
#include <base/buf.h>

/* Appends `text` (UTF-8) with & < > " escaped, for content or a quoted attribute. Control characters that
 * XML 1.0 cannot hold are dropped. */
void xml_write_text(struct buf *b, const char *text);
/* The same for a quoted attribute that shall be read as it was: line ends and tabs, for which readers take
 * spaces, are escaped too. */
void xml_write_attribute(struct buf *b, const char *text);
