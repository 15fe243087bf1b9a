"""`pxeboot image export|import|files` as an administrator types them."""

from __future__ import annotations

from pxeboot.adapters.container import Services
from tests.pxeboot.cli.conftest import Run
from tests.shelf import stock


def test_a_version_goes_out_and_comes_in(run: Run, services: Services) -> None:
    stock(services, "debian", "a", "b")
    said = run("image", "export", "debian@1", "--to", "debian.pxi", "--format", "bundle")
    assert said.status == 0, said.err
    assert "debian.pxi" in said.out
    assert run("image", "export", "debian", "--to", "debian.pxi", "--format", "bundle").status != 0
    said = run("image", "files")
    assert "debian.pxi" in said.out
    assert services.store.public_key in said.out
    said = run("image", "import", "debian.pxi", "--as", "copy", "--note", "from the lab")
    assert said.status == 0, said.err
    assert "copy@1" in said.out
    assert "from the lab" in run("image", "show", "copy").out
    said = run("image", "import", "../data/pxeboot.sqlite", "--as", "copy", "--format", "raw")
    assert said.status != 0
    assert "is not the name of a file inside" in said.err
