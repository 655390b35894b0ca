# distill's page on a CPU:
#
#     docker build -t distill .
#     docker run --rm -it -p 127.0.0.1:8713:8713 -v distill:/data -v ~/sounds:/sounds:ro distill
#
# Then open the address that it prints. Models and runs are in the volume `distill`, your sounds in the folder /sounds.
# Other commands follow the name: `docker run … distill distill train /sounds`.
FROM python:3.13-slim

# First what changes rarely. From PyTorch's own index comes a build without CUDA, 2.5 GB less to download.
WORKDIR /opt/distill
COPY constraints.txt .
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch

COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[m4a]'

RUN useradd --create-home --uid 1000 distill && mkdir /data /sounds && chown 1000 /data
USER 1000
WORKDIR /data
ENV DISTILL_HOME=/data
VOLUME ["/data", "/sounds"]
EXPOSE 8713

# Reachable from outside the container; the token in the address, new at every start, keeps others out.
CMD ["distill", "web", "--host", "0.0.0.0", "--no-browser"]
