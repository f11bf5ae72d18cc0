"""Speech and transcription through the real binary: what is relayed, what it cost, what the provider got."""
import base64
import http.client
import json
import struct
import unittest
from decimal import Decimal

import harness

CHAR, LISTEN, TOKEN_IN, SOUND_IN, TOKEN_OUT, SOUND_OUT = (Decimal(p) for p in
                                                          ("0.000015", "0.0000001", "0.0000006", "0.0000025", "0.00001", "0.000012"))
VOICE = "Fake0Voice0Of0Tests0"  # twenty letters and digits, made up
BOUNDARY = "fake-boundary-of-the-tests"


def line(name, price, per=1000000):
    return {"class": name, "price": price, "per": per}


def form(fields, file=b"RIFFnot a wave", name="talk.mp3", boundary=BOUNDARY):
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields]
    if file is not None:
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                     'Content-Type: audio/mpeg\r\n\r\n'.encode() + file + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def wave(ms, rate=8000):
    data = b"\0\0" * (rate * ms // 1000)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16) + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(head) + len(data)) + head + data


def events(body):
    return [json.loads(block[6:]) for block in body.decode().split("\n\n") if block.startswith("data: ")]


class Audio(harness.Case):
    ENV = {"TOLLGATE_EGRESS_ALLOW": "127.0.0.1/32"}

    @classmethod
    def prepare(cls):
        cls.org = cls.tg.setup_org("acme")
        cls.tg.must("POST", "/orgs/platform/profiles", {
            "name": "eleven", "provider": "elevenlabs", "base_url": f"http://127.0.0.1:{cls.fake.port}/elevenlabs",
            "secret": "sk_fakeelevenkey", "billing_source": "platform", "models": ["eleven_*", "scribe_*"], "priority": 10,
            "default": False, "validate": False})
        models = {"tts-1": [line("chars", "15")], "tts-failing": [line("chars", "15")], "gpt-4o-mini-tts": [line("in_text", "0.6"), line("out_audio", "12")],
                  "whisper-1": [line("audio_in_ms", "0.0001", 1000)],
                  "gpt-4o-transcribe": [line("in_text", "0.6"), line("in_audio", "2.5"), line("out_text", "10")]}
        for model, lines in models.items():
            cls.tg.must("PUT", f"/models/openai_compatible/{model}", {"capabilities": ["audio_in", "audio_out"], "context_window": None, "max_output": None})
            cls.tg.must("PUT", f"/prices/openai_compatible/{model}", {"book": "sell", "effective_from": None, "lines": lines})
        for model in ("tts-1", "tts-failing", "gpt-4o-mini-tts", "eleven_flash_v2_5", "eleven_multilingual_v2"):
            voice = VOICE if model.startswith("eleven") else "alloy"
            harness.wait_until(lambda: cls.speak(model=model, input="a", voice=voice).status == 200, 10, model)
        for model in ("whisper-1", "gpt-4o-transcribe", "scribe_v1"):
            harness.wait_until(lambda: cls.listen([("model", model)]).status == 200, 10, model)

    @classmethod
    def speak(cls, **body):
        return cls.tg.post("/v1/audio/speech", body, cls.org.key)

    @classmethod
    def listen(cls, fields, file=b"x" * 40000, boundary=BOUNDARY, **more):
        return cls.tg.post("/v1/audio/transcriptions", form(fields, file, boundary=boundary, **more), cls.org.key,
                           {"Content-Type": f"multipart/form-data; boundary={boundary}"})

    def row(self, answer):
        status, envelope = self.org.admin("GET", f"/usage/calls/{answer.headers['x-request-id']}")
        self.assertEqual(status, 200, envelope)
        return envelope["data"]

    def units(self, answer):
        return {one["class"]: one["units"] for one in self.row(answer)["lines"]}

    # --- speech ---

    def test_sound_is_relayed_as_it_is_and_charged_by_characters(self):
        before = self.org.balance()
        text = "Grüße aus dem Hafen. " * 20
        answer = self.speak(model="tts-1", input=text, voice="alloy")
        self.assertStatus(answer, 200)
        self.assertEqual(answer.headers["content-type"], "audio/mpeg")
        self.assertIsNone(answer.headers["x-tollgate-cost"])  # its head went before the booking
        self.assertEqual(answer.headers["x-tollgate-provider"], "openai_compatible")
        self.assertEqual(len(answer.body), 3 + 16 * len(text))
        self.assertEqual(answer.body[:3], b"ID3")
        self.assertEqual(before - self.org.balance(), len(text) * CHAR)
        self.assertEqual(self.units(answer), {"chars": len(text)})
        self.assertEqual(self.row(answer)["basis"], "provider_usage")
        self.assertEqual(json.loads(self.fake.last()["body"]), {"model": "tts-1", "input": text, "voice": "alloy"})

    def test_the_last_bytes_wait_for_the_booking(self):
        before = self.org.balance()
        connection = http.client.HTTPConnection(self.tg.data_host, self.tg.data_port, timeout=30)
        connection.request("POST", "/v1/audio/speech", json.dumps({"model": "tts-1", "input": "a" * 1000, "voice": "alloy"}),
                           {"Authorization": f"Bearer {self.org.key}", "Content-Type": "application/json"})
        body = connection.getresponse().read()
        connection.close()
        self.assertEqual(len(body), 16003)
        self.assertEqual(before - self.org.balance(), 1000 * CHAR)  # at once: it was booked before the end was sent

    def test_a_short_sound_arrives_whole(self):
        answer = self.speak(model="tts-1", input="a", voice="alloy", response_format="wav")
        self.assertEqual((answer.status, answer.headers["content-type"], len(answer.body)), (200, "audio/wav", 20))

    def test_events_pass_through_with_their_usage(self):
        before = self.org.balance()
        answer = self.speak(model="gpt-4o-mini-tts", input="one two three four", voice="alloy", stream_format="sse")
        self.assertStatus(answer, 200)
        got = events(answer.body)
        self.assertEqual([e["type"] for e in got][-1], "speech.audio.done")
        sound = b"".join(base64.b64decode(e["audio"]) for e in got if e["type"] == "speech.audio.delta")
        self.assertEqual(len(sound), 3 + 16 * 18)
        usage = got[-1]["usage"]
        self.assertEqual(before - self.org.balance(), usage["input_tokens"] * TOKEN_IN + usage["output_tokens"] * SOUND_OUT)
        self.assertEqual(self.row(answer)["basis"], "provider_usage")

    def test_sound_of_a_model_that_is_sold_by_tokens_is_estimated(self):
        answer = self.speak(model="gpt-4o-mini-tts", input="x" * 100, voice="alloy")
        self.assertStatus(answer, 200)
        self.assertEqual(self.row(answer)["basis"], "est_missing")
        self.assertEqual(self.units(answer), {"in_text": 25, "out_audio": 140})

    def test_a_stream_that_breaks_cuts_the_connection_and_is_paid(self):
        before = self.org.balance()
        text = "long " * 700
        answer = self.speak(model="tts-failing", input=text + "[[cut_after=2]]", voice="alloy")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.broken)
        self.assertGreater(len(answer.body), 0)
        self.assertLess(len(answer.body), 16 * len(text))
        harness.wait_until(lambda: before - self.org.balance() == (len(text) + 15) * CHAR, 10, "the charge")

    def test_a_failure_before_the_first_byte_costs_nothing(self):
        before = self.org.balance()
        answer = self.speak(model="tts-1", input="a [[status=400]]", voice="alloy")
        self.assertStatus(answer, 400)
        self.assertEqual(answer.headers["content-type"], "application/json")
        harness.wait_until(lambda: self.org.balance() == before, 10, "the hold to come back")

    def test_bad_speech_is_refused_by_field_and_costs_nothing(self):
        before = self.org.balance()
        for change, field in (({"input": ""}, "input"), ({"input": "ä" * 4097}, "input"), ({"input": None}, "input"), ({"voice": None}, "voice"),
                              ({"voice": 1}, "voice"), ({"speed": 0.2}, "speed"), ({"speed": "1"}, "speed"), ({"speed": 4.01}, "speed"),
                              ({"stream_format": "x"}, "stream_format"), ({"model": ""}, "model"), ({"instructions": 1}, "instructions")):
            answer = self.speak(**{"model": "tts-1", "input": "a", "voice": "alloy", **change})
            self.assertStatus(answer, 400)
            self.assertEqual(answer.json["error"]["param"], field)
        self.assertEqual((self.fake.calls(), self.org.balance()), ([], before))
        self.assertStatus(self.speak(model="tts-1", input="ä" * 4096, voice="alloy"), 200)  # characters, not bytes

    def test_elevenlabs_speaks_in_openais_words(self):
        before = self.org.balance()
        answer = self.speak(model="eleven_flash_v2_5", input="Nine nine", voice=VOICE, speed=2, instructions="whisper", response_format="opus")
        self.assertStatus(answer, 200)
        self.assertEqual((answer.headers["content-type"], len(answer.body)), ("audio/ogg", 4 + 16 * 9))
        self.assertEqual(answer.headers["x-tollgate-dropped"], "instructions, speed")
        last = self.fake.last()
        self.assertIn(f"/v1/text-to-speech/{VOICE}/stream?output_format=opus_48000_128", last["head"])
        self.assertIn("xi-api-key", last["head"].lower())
        self.assertEqual(json.loads(last["body"]), {"text": "Nine nine", "model_id": "eleven_flash_v2_5", "voice_settings": {"speed": 1.2}})
        self.assertEqual(self.units(answer), {"chars": 9})  # five credits at half a credit each
        self.assertEqual(before - self.org.balance(), 9 * Decimal("0.00009"))
        self.assertTrue(self.row(answer)["provider_request_id"])

    def test_elevenlabs_sound_becomes_events_where_they_are_asked_for(self):
        answer = self.speak(model="eleven_multilingual_v2", input="x" * 1000, voice=VOICE, stream_format="sse", response_format="pcm")
        self.assertStatus(answer, 200)
        got = events(answer.body)
        sound = b"".join(base64.b64decode(e["audio"]) for e in got[:-1])
        self.assertEqual({e["type"] for e in got[:-1]}, {"speech.audio.delta"})
        self.assertEqual(len(sound), 16000)
        self.assertEqual(got[-1], {"type": "speech.audio.done", "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}})

    def test_what_elevenlabs_has_no_words_for_is_refused_by_name(self):
        before = self.org.balance()
        for change, field in (({"voice": "alloy"}, "voice"), ({"voice": "../voices/" + "a" * 10}, "voice"), ({"response_format": "aac"}, "response_format"),
                              ({"response_format": "flac"}, "response_format")):
            answer = self.speak(**{"model": "eleven_flash_v2_5", "input": "a", "voice": VOICE, **change})
            self.assertStatus(answer, 400)
            self.assertEqual(answer.json["error"]["param"], field)
        self.assertEqual((self.fake.calls(), self.org.balance()), ([], before))

    def test_the_voices_of_an_endpoint_are_listed(self):
        profile = self.tg.setup_profile(self.org, "own-eleven", provider="elevenlabs", secret="sk_fakeowneleven", models=["eleven_v3"],
                                        base_url=f"http://127.0.0.1:{self.fake.port}/elevenlabs")
        self.assertEqual(profile["provider"], "elevenlabs")
        status, envelope = self.org.admin("POST", "/profiles/own-eleven/test", {"action": "list_voices"})
        self.assertEqual((status, envelope["data"]["ok"]), (200, True), envelope)
        self.assertEqual(envelope["data"]["detail"]["voices"], [{"id": "voice1", "name": "Fake"}])
        self.tg.setup_profile(self.org, "own-other", models=["some-model"])
        status, envelope = self.org.admin("POST", "/profiles/own-other/test", {"action": "list_voices"})
        self.assertEqual((status, envelope["error"]["code"]), (400, "not_supported"))
        self.assertEqual([p["id"] for p in self.tg.must("GET", "/providers?limit=100") if "list_voices" in p["tests"]], ["elevenlabs"])

    # --- transcription ---

    def test_tokens_and_seconds_are_both_charged_as_stated(self):
        before = self.org.balance()
        answer = self.listen([("model", "gpt-4o-transcribe")])
        self.assertStatus(answer, 200)
        usage = answer.json["usage"]
        cost = (usage["input_token_details"]["text_tokens"] * TOKEN_IN + usage["input_token_details"]["audio_tokens"] * SOUND_IN
                + usage["output_tokens"] * TOKEN_OUT)
        self.assertEqual(before - self.org.balance(), cost)
        self.assertEqual(Decimal(answer.headers["x-tollgate-cost"]), cost)
        before = self.org.balance()
        answer = self.listen([("model", "whisper-1"), ("response_format", "verbose_json")])
        self.assertEqual(answer.json["usage"], {"type": "duration", "seconds": 3})
        self.assertEqual(self.units(answer), {"audio_in_ms": 3000})
        self.assertEqual(before - self.org.balance(), 3000 * LISTEN)

    def test_the_bytes_of_a_form_pass_through(self):
        sent = form([("model", "whisper-1"), ("language", "de"), ("temperature", "0")], b"\r\n--fake\r\n-- \r" * 50)
        answer = self.tg.post("/v1/audio/transcriptions", sent, self.org.key, {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'})
        self.assertStatus(answer, 200)
        self.assertIn("multipart/form-data", self.fake.last()["head"])
        self.assertEqual(self.fake.last()["body"].encode(), sent)

    def test_plain_forms_are_written_from_exact_answers(self):
        for name, kind in (("text", "text/plain"), ("srt", "text/plain"), ("vtt", "text/vtt")):
            answer = self.listen([("model", "whisper-1"), ("response_format", name)])
            self.assertStatus(answer, 200)
            self.assertTrue(answer.headers["content-type"].startswith(kind), answer.headers["content-type"])
            self.assertIn("heard 40000 bytes of talk.mp3", answer.body.decode())
            self.assertEqual((self.row(answer)["basis"], self.units(answer)), ("provider_usage", {"audio_in_ms": 3000}))
        self.assertTrue(answer.body.startswith(b"WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n"))

    def test_events_of_a_transcription_pass_through(self):
        answer = self.listen([("model", "gpt-4o-transcribe"), ("stream", "true")])
        self.assertStatus(answer, 200)
        got = events(answer.body)
        self.assertEqual(got[-1]["type"], "transcript.text.done")
        self.assertEqual("".join(e["delta"] for e in got[:-1]).split(), got[-1]["text"].split())
        self.assertEqual(self.units(answer)["in_audio"], got[-1]["usage"]["input_token_details"]["audio_tokens"])

    def test_a_model_that_does_not_stream_is_told_in_events(self):
        answer = self.listen([("model", "whisper-1"), ("stream", "true")])
        self.assertStatus(answer, 200)
        got = events(answer.body)
        self.assertEqual([e["type"] for e in got], ["transcript.text.delta", "transcript.text.done"])
        self.assertEqual(got[0]["delta"], got[1]["text"])
        self.assertEqual(self.units(answer), {"audio_in_ms": 3000})

    def test_a_wave_that_nobody_counted_is_measured(self):
        answer = self.listen([("model", "whisper-1"), ("prompt", "[[no_usage]]")], wave(2500))
        self.assertStatus(answer, 200)
        self.assertEqual((self.row(answer)["basis"], self.units(answer)), ("provider_usage", {"audio_in_ms": 2500}))
        answer = self.listen([("model", "whisper-1"), ("prompt", "[[no_usage]]")], b"x" * 8000)
        self.assertEqual((self.row(answer)["basis"], self.units(answer)), ("est_missing", {"audio_in_ms": 2000}))

    def test_elevenlabs_listens_in_openais_words(self):
        before = self.org.balance()
        answer = self.listen([("model", "scribe_v1"), ("language", "en"), ("response_format", "verbose_json"), ("timestamp_granularities[]", "word"),
                              ("prompt", "p"), ("keywords[]", "tollgate")])
        self.assertStatus(answer, 200)
        self.assertEqual((answer.json["task"], answer.json["language"], answer.json["duration"]), ("transcribe", "english", 3.0))
        self.assertEqual(answer.json["words"][0], {"word": "heard", "start": 0.0, "end": 1.0})
        self.assertEqual(answer.headers["x-tollgate-dropped"], "prompt")
        body = self.fake.last()["body"]
        for name in ("model_id", "language_code", "timestamps_granularity", "keyterms", "file"):
            self.assertIn(f'name="{name}"', body)
        self.assertNotIn('name="model"', body)
        self.assertEqual(self.units(answer), {"audio_in_ms": 3000})
        self.assertLess(self.org.balance(), before)
        answer = self.listen([("model", "scribe_v1"), ("response_format", "srt")])
        self.assertTrue(answer.body.startswith(b"1\n00:00:00,000 --> 00:00:0"), answer.body)
        answer = self.listen([("model", "scribe_v1"), ("stream", "true")])
        self.assertEqual([e["type"] for e in events(answer.body)], ["transcript.text.delta", "transcript.text.done"])

    def test_a_form_that_two_readers_could_read_in_two_ways_is_refused(self):
        before = self.org.balance()
        good = form([("model", "whisper-1")], b"x")
        head = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        bad = [b"x" + good, good + b"x", good[:-4] + b"\r\n", good.replace(b"\r\n", b"\n"), b"", b"{}",
               form([("model", "whisper-1"), ("model", "tts-1")], b"x"), form([("model", "whisper-1")], b"x").replace(b"audio/mpeg", b"multipart/mixed")]
        for body in bad:
            self.assertIn(self.tg.post("/v1/audio/transcriptions", body, self.org.key, head).status, (400, 411), body)
        for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=a; boundary=b", 'multipart/form-data; boundary=""'):
            self.assertStatus(self.tg.post("/v1/audio/transcriptions", good, self.org.key, {"Content-Type": kind}), 400)
        for fields, field in (([], "model"), ([("model", "whisper-1"), ("response_format", "x")], "response_format"), ([("model", "whisper-1"), ("stream", "1")], "stream")):
            answer = self.listen(fields)
            self.assertStatus(answer, 400)
            self.assertEqual(answer.json["error"]["param"], field)
        self.assertEqual(self.listen([("model", "whisper-1")], None).json["error"]["param"], "file")
        self.assertEqual(self.listen([("model", "whisper-1")], b"").json["error"]["param"], "file")
        self.assertEqual((self.fake.calls(), self.org.balance()), ([], before))

    def test_a_file_over_the_bound_is_refused(self):
        self.assertStatus(self.listen([("model", "whisper-1")], b"\0" * ((25 << 20) + 1)), 413)
        self.assertEqual(self.fake.calls(), [])


if __name__ == "__main__":
    unittest.main()
