# syntax=docker/dockerfile:1.7
# The node as an image: docker build -t backplane:0.1.0 .
# docs/networks.md says how it is run. The build needs BuildKit, which every Docker since 23.0 uses.

FROM swift:6.3.1-bookworm AS build
WORKDIR /work
# Apart from the rest, so that a change of the sources installs no packages.
COPY scripts/packages scripts/packages
RUN scripts/packages install && rm -rf /var/lib/apt/lists/*
COPY . .
RUN scripts/build && scripts/install --prefix /usr --root /image --systemd 252

FROM debian:12.12-slim
# A fixed number, since the volume keeps it when the image is built anew.
RUN groupadd --system --gid 10001 backplane \
  && useradd --system --uid 10001 --gid backplane --home-dir /var/lib/backplane --shell /usr/sbin/nologin backplane \
  && install -d -m 0700 -o backplane -g backplane /var/lib/backplane /run/backplane
RUN --mount=type=bind,source=scripts/packages,target=/packages \
  /packages runtime && rm -rf /var/lib/apt/lists/*
COPY --from=build /image/etc/backplane/ /etc/backplane/
COPY --from=build /image/usr/lib/backplane/ /usr/lib/backplane/
COPY --from=build /image/usr/bin/ /usr/bin/

# Everything that is written lies here: the root can be read-only (docker run --read-only --tmpfs /tmp --tmpfs /run/backplane).
ENV STATE_DIRECTORY=/var/lib/backplane RUNTIME_DIRECTORY=/run/backplane PORT=9942
VOLUME ["/var/lib/backplane"]
WORKDIR /var/lib/backplane
USER 10001:10001
EXPOSE 9942
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["backplane", "health"]
ENTRYPOINT ["backplane"]
CMD ["serve"]
