/// The table of a backend, filled once the instance exists.
private func makeBackendTable(_ modes: BackendModes) -> UnsafeMutablePointer<bp_backend> {
  let table = UnsafeMutablePointer<bp_backend>.allocate(capacity: 1)
  table.initialize(
    to: bp_backend(
      size: .size(of: bp_backend.self),
      flags: (modes.isAtomic ? BP_BACKEND_ATOMIC : 0) | (modes.keepsVersions ? BP_BACKEND_VERSIONS : 0)
        | (modes.isRemote ? BP_BACKEND_REMOTE : 0),
      apply_mode: modes.apply.rawValue, read_mode: modes.read.rawValue, scan_mode: modes.scan.rawValue,
      durability_max: modes.durability.rawValue,
      apply: { pointer, units, count in InstanceBox.with(pointer) { $0.apply(units!, Int(count)) } },
      read: { pointer, reads, count in InstanceBox.with(pointer) { $0.read(reads!, Int(count)) } },
      scan: { pointer, scan in InstanceBox.with(pointer) { $0.scan(scan!) } }))
  return table
}

/// The n-th element of an array of sized structs (core.h: walked by the size of the first element).
@inline(__always)
private func element<T>(_ first: UnsafePointer<T>, _ index: Int, _ size: UInt32) -> T {
  UnsafeRawPointer(first).advanced(by: index * Int(size)).load(as: T.self)
}

/// The table of backplane.backend.query/1, of a backend that has it.
private func makeQueryTable(_ mode: CallMode) -> UnsafeMutablePointer<bp_backend_query> {
  let table = UnsafeMutablePointer<bp_backend_query>.allocate(capacity: 1)
  table.initialize(
    to: bp_backend_query(
      size: .size(of: bp_backend_query.self), mode: mode.rawValue,
      query: { pointer, query in InstanceBox.with(pointer) { $0.query(query!) } }))
  return table
}

final class DirectBackendInstance<P: DirectBackend>: Instance<P> {
  private let backend = makeBackendTable(P.modes)
  private let queries = P.modes.query.map { makeQueryTable($0) }

  deinit {
    backend.deallocate()
    queries?.deallocate()
  }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    if id.equals("backplane.backend/1") { return UnsafeRawPointer(backend) }
    return id.equals("backplane.backend.query/1") ? queries.map { UnsafeRawPointer($0) } : nil
  }

  override func cancel(_ token: bp_token) { plugin.cancel(token) }

  override func apply(_ units: UnsafePointer<bp_unit>, _ count: Int) {
    plugin.apply(UnitBatch(host: host, first: units, count: count))
  }

  override func read(_ reads: UnsafePointer<bp_read>, _ count: Int) {
    if count == 1 { return plugin.read(ReadCall(host: host, request: reads.pointee)) }
    plugin.read(ReadBatch(host: host, first: reads, count: count))
  }

  override func scan(_ scan: UnsafePointer<bp_scan>) { plugin.scan(ScanCall(host: host, request: scan.pointee)) }

  override func query(_ query: UnsafePointer<bp_query>) { plugin.query(QueryCall(host: host, request: query.pointee)) }
}

final class BackendInstance<P: Backend>: Instance<P> {
  private let backend = makeBackendTable(
    BackendModes(apply: .async, read: .async, scan: .async, durability: P.durability))
  private let order = UnitOrder()

  deinit { backend.deallocate() }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.backend/1") ? UnsafeRawPointer(backend) : nil
  }

  override func cancel(_ token: bp_token) { executor?.cancel(token) }

  override func apply(_ units: UnsafePointer<bp_unit>, _ count: Int) {
    let plugin = plugin!
    let size = units.pointee.size
    for index in 0..<count {
      let call = UnitCall(host: host, unit: element(units, index, size))
      guard let executor else { return call.fail(.unavailable("the backend is not started")) }
      let unit = WriteUnit(
        ops: (0..<call.count).map { Op(call[$0]) }, timestampMs: call.timestampMs, version: call.version)
      order.submit(unit.ops.map(\.uri), call.token, to: executor) {
        do {
          let applied = try await plugin.apply(unit)
          call.applied(P.durability, absentCount: applied.absentCount)
        } catch let failed as PreconditionFailed {
          call.preconditionFailed(op: failed.op)
        } catch {
          call.fail(Failure(error))
        }
      }
    }
  }

  override func read(_ reads: UnsafePointer<bp_read>, _ count: Int) {
    let plugin = plugin!
    let size = reads.pointee.size
    for index in 0..<count {
      let call = ReadCall(host: host, request: element(reads, index, size))
      guard let executor else { return call.fail(.unavailable("the backend is not started")) }
      let uri = String(decoding: call.uri, as: UTF8.self)
      executor.submit(call.token) {
        do {
          guard let record = try await plugin.read(uri) else { return call.notFound() }
          record.data.withUnsafeBufferPointer {
            call.found(timestampMs: record.timestampMs, version: record.version, content: record.content, data: $0)
          }
        } catch {
          call.fail(Failure(error))
        }
      }
    }
  }

  override func scan(_ scan: UnsafePointer<bp_scan>) {
    let plugin = plugin!
    let call = ScanCall(host: host, request: scan.pointee)
    guard let executor else { return call.fail(.unavailable("the backend is not started")) }
    let prefix = String(decoding: call.prefix, as: UTF8.self)
    let cursor = call.cursor.isEmpty ? nil : Array(call.cursor)
    let limit = call.limit
    executor.submit(call.token) {
      do {
        let page = try await plugin.scan(prefix: prefix, after: cursor, limit: limit)
        ScanPageWriter.complete(call, with: page)
      } catch {
        call.fail(Failure(error))
      }
    }
  }
}

/// Lays a page of values out as the boundary's structs.
private enum ScanPageWriter {
  static func complete(_ call: ScanCall, with page: ScanPage) {
    var text: [UInt8] = []
    var ends: [Int] = []
    for item in page.items {
      text.append(contentsOf: item.uri.utf8)
      ends.append(text.count)
    }
    text.withUnsafeBufferPointer { bytes in
      var start = 0
      let items = zip(page.items, ends).map { item, end in
        defer { start = end }
        return bp_scan_item(
          uri: bp_view(BorrowedBytes(rebasing: bytes[start..<end])), ts_ms: item.timestampMs, version: item.version,
          size_bytes: UInt64(item.sizeBytes), content: item.content.rawValue, reserved: 0)
      }
      items.withUnsafeBufferPointer { list in
        (page.cursor ?? []).withUnsafeBufferPointer { call.page(list, cursor: $0) }
      }
    }
  }
}
