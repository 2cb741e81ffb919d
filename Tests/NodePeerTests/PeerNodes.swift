import Foundation
import NodeTesting
