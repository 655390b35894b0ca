"""Files that the page downloads, each under a real name."""

from urllib.parse import quote

from fastapi import Response


def wav_file(content: bytes, name: str) -> Response:
    """A WAV file called `name`."""
    return named(content, f"{name}.wav", "audio/wav")


def named(content: bytes, file: str, media_type: str) -> Response:
    """A file that a browser saves as `file`, whatever letters the name has (RFC 6266)."""
    return Response(
        content,
        media_type=media_type,
        headers={"Content-Disposition": f"attachment; filename*=utf-8''{quote(file, safe='')}"},
    )
