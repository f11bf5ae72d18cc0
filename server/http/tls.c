/* server/http/tls.c - the process's certificate, replaced whole on reload.
 *
 * A connection keeps the context it was made with; the lock is held only to take a reference. */
#include "server/http/http.h"
#include "server/http/http_priv.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

static pthread_mutex_t tls_lock = PTHREAD_MUTEX_INITIALIZER;
static SSL_CTX *tls_ctx; /* under tls_lock */
static _Atomic bool tls_on;

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
		       const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, sizeof ours - 1,
				  in, in_len) == OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_OK;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static enum rc tls_err(struct err *err, const char *what, const char *file)
{
	char words[160];
	unsigned long e = ERR_get_error();

	ERR_error_string_n(e, words, sizeof words);
	ERR_clear_error();
	return err_set(err, RC_INVALID, "bad_tls", "%s %s: %s", what, file,
		       e ? words : "no reason given");
}

static enum rc ctx_fill(SSL_CTX *ctx, const char *cert_file, const char *key_file, struct err *err)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
		return tls_err(err, "TLS 1.2 is not to be had for", cert_file);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
		return tls_err(err, "certificate", cert_file);
	if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
		return tls_err(err, "key", key_file);
	if (SSL_CTX_check_private_key(ctx) != 1)
		return tls_err(err, "the key does not belong to the certificate:", key_file);
	return RC_OK;
}

enum rc http_tls_load(const char *cert_file, const char *key_file, struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX *old;
	enum rc rc = ctx ? ctx_fill(ctx, cert_file, key_file, err)
			 : tls_err(err, "no TLS context for", cert_file);

	if (rc != RC_OK) {
		SSL_CTX_free(ctx);
		return rc;
	}
	pthread_mutex_lock(&tls_lock);
	old = tls_ctx;
	tls_ctx = ctx;
	pthread_mutex_unlock(&tls_lock);
	atomic_store(&tls_on, true);
	SSL_CTX_free(old); /* connections made with it hold their own reference */
	return RC_OK;
}

void http_tls_unload(void)
{
	SSL_CTX *old;

	pthread_mutex_lock(&tls_lock);
	old = tls_ctx;
	tls_ctx = NULL;
	pthread_mutex_unlock(&tls_lock);
	atomic_store(&tls_on, false);
	SSL_CTX_free(old);
}

bool http_tls_loaded(void)
{
	return atomic_load(&tls_on);
}

struct ssl_st *http_tls_new(void)
{
	SSL *ssl = NULL;

	if (!http_tls_loaded())
		return NULL;
	pthread_mutex_lock(&tls_lock);
	if (tls_ctx)
		ssl = SSL_new(tls_ctx);
	pthread_mutex_unlock(&tls_lock);
	return ssl;
}
