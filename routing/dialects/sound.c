/* routing/dialects/sound.c - the length of a file of sound, without decoding it.
 *
 * Must never read past the file, and never believe a length that the file merely claims: of a WAV the bytes that are there
 * count, not its header's number of them. */
#include "routing/dialects/sound_priv.h"

#define RATE_LOWEST_BYTES_S   500 /* 4 kbit/s: below Opus's 6, the lowest that speech is sent with */
#define RATE_ORDINARY_BYTES_S 4000 /* 32 kbit/s: what a recorder of speech makes */
#define CHUNKS_MAX	      64   /* of a WAV, before its data */
#define EXACT_SLACK_MS	      1000 /* a provider may round a second up */

static uint32_t le(const char *at, int bytes)
{
	uint32_t n = 0;

	for (int i = bytes - 1; i >= 0; i--)
		n = n << 8 | (unsigned char)at[i];
	return n;
}

/* Bytes of a second of plain samples: format 1 (integers), 3 (floats), 6 and 7 (G.711). 0: of another kind, or its numbers
 * contradict each other, so that another reader may find the sound longer. */
static int64_t wav_rate(struct str fmt)
{
	uint32_t kind, channels, rate, bits, frame;

	if (fmt.len < 16)
		return 0;
	kind = le(fmt.ptr, 2);
	channels = le(fmt.ptr + 2, 2);
	rate = le(fmt.ptr + 4, 4);
	frame = le(fmt.ptr + 12, 2);
	bits = le(fmt.ptr + 14, 2);
	if (kind != 1 && kind != 3 && kind != 6 && kind != 7)
		return 0;
	if (channels < 1 || channels > 8 || rate < 4000 || rate > 384000 || bits < 8 || bits > 64 ||
	    bits % 8 != 0)
		return 0;
	if (frame != channels * (bits / 8) || le(fmt.ptr + 8, 4) != rate * frame)
		return 0;
	return (int64_t)rate * frame;
}

static bool wav_ms(struct str file, int64_t *ret)
{
	struct str rest = str_slice(file, 12, file.len);
	int64_t rate = 0;

	if (file.len < 12 || memcmp(file.ptr, "RIFF", 4) != 0 ||
	    memcmp(file.ptr + 8, "WAVE", 4) != 0)
		return false;
	for (int i = 0; i < CHUNKS_MAX && rest.len >= 8; i++) {
		const struct str body = str_slice(rest, 8, rest.len);
		const size_t len = le(rest.ptr + 4, 4);

		if (memcmp(rest.ptr, "fmt ", 4) == 0) {
			if (rate != 0) /* some take the first, some the last */
				return false;
			rate = wav_rate(str_slice(body, 0, len));
			if (rate == 0)
				return false;
		}
		if (memcmp(rest.ptr, "data", 4) == 0) {
			if (rate <= 0)
				return false;
			*ret = ((int64_t)body.len * 1000 + rate - 1) / rate;
			return true;
		}
		if (len > body.len)
			return false;
		rest = str_slice(body, len + len % 2, body.len);
	}
	return false;
}

/* The rate of the first frame of an MP3, behind an ID3 tag; 0: there is none to be seen. */
static int64_t mp3_rate(struct str file)
{
	static const int kbit[2][16] = {
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0}, /* MPEG 1 */
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},     /* 2, 2.5 */
	};
	size_t at = 0;
	unsigned char second, third;

	if (file.len > 10 && memcmp(file.ptr, "ID3", 3) == 0)
		at = 10 + ((size_t)(file.ptr[6] & 127) << 21 | (size_t)(file.ptr[7] & 127) << 14 |
			   (size_t)(file.ptr[8] & 127) << 7 | (size_t)(file.ptr[9] & 127));
	if (at + 4 > file.len || (unsigned char)file.ptr[at] != 0xff)
		return 0;
	second = (unsigned char)file.ptr[at + 1];
	third = (unsigned char)file.ptr[at + 2];
	if ((second & 0xe0) != 0xe0 || (second & 0x06) != 0x02) /* layer III */
		return 0;
	return (int64_t)kbit[(second & 0x18) != 0x18][third >> 4] * 125;
}

void sound_measure(struct str file, struct call_counts *ret)
{
	int64_t rate = mp3_rate(file), ms;

	if (wav_ms(file, &ms)) {
		ret->audio_ms = ms;
		ret->audio_exact = true;
		ret->audio_ms_max = ms + EXACT_SLACK_MS;
		return;
	}
	if (rate <= 0)
		rate = RATE_ORDINARY_BYTES_S;
	ret->audio_ms = ((int64_t)file.len * 1000 + rate - 1) / rate;
	ret->audio_ms_max =
		((int64_t)file.len * 1000 + RATE_LOWEST_BYTES_S - 1) / RATE_LOWEST_BYTES_S +
		EXACT_SLACK_MS;
}
