/* routing/dialects/words.c - clean a provider's words of what belongs to our account there.
 *
 * Providers say back who asked: a key with its middle masked, the address of an account. A caller need not be who owns
 * either. Must never make a text longer, nor touch words that are about the request. */
#include "routing/dialects/words_priv.h"

#include <string.h>

#include "server/base/log.h"

#define MASK_STARS_MIN 3

static bool is_word(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       c == '_' || c == '-';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "name@host.tld" at the start of `s`: its length without the full stop behind a sentence; 0: none. */
static size_t mail_len(struct str s)
{
	size_t len = 0, at = 0, dot = 0, ats = 0;

	while (len < s.len && (is_word(s.ptr[len]) || memchr(".%+@", s.ptr[len], 4))) {
		if (s.ptr[len] == '@') {
			at = len;
			ats++;
		}
		len++;
	}
	while (len > 0 && s.ptr[len - 1] == '.')
		len--;
	for (size_t i = at; i < len; i++)
		if (s.ptr[i] == '.')
			dot = i;
	if (ats != 1 || at == 0 || dot <= at + 1 || len - dot < 3)
		return 0;
	for (size_t i = dot + 1; i < len; i++)
		if (!is_letter(s.ptr[i]))
			return 0;
	return len;
}

/* "sk-ab****wxyz" at the start of `s`, or what another cleaner left of it: its length; 0: no mask. */
static size_t masked_len(struct str s)
{
	size_t len = 0, stars = 0;

	while (len < s.len && is_word(s.ptr[len]))
		len++;
	while (len + stars < s.len && s.ptr[len + stars] == '*')
		stars++;
	if (stars < MASK_STARS_MIN)
		return 0;
	len += stars;
	while (len < s.len && is_word(s.ptr[len]))
		len++;
	return len;
}

size_t words_scrub(char *text, size_t len)
{
	static const char mail[] = "[mail]";
	size_t out = 0, in = 0, n;

	len = log_scrub(text, len);
	while (in < len) {
		const struct str rest = str_of(text + in, len - in);

		if ((n = masked_len(rest)) > 0) {
			memset(text + out, '*', MASK_STARS_MIN);
			out += MASK_STARS_MIN;
		} else if ((n = mail_len(rest)) > 0) {
			memcpy(text + out, mail, sizeof mail - 1);
			out += sizeof mail - 1;
		} else {
			/* a word at a time: what stands in its middle is not its start */
			do
				text[out++] = text[in + n++];
			while (n < rest.len && is_word(text[in + n - 1]) &&
			       (is_word(text[in + n]) || memchr(".%+@", text[in + n], 4)));
		}
		in += n;
	}
	return out;
}
